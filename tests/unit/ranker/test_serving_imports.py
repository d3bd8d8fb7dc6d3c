"""What must not be imported to serve the model."""

import subprocess
import sys


def test_serving_does_not_import_torch() -> None:
    script = (
        "import sys, services.ranker.bind, services.ranker.training.log\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "sys.exit(bool(loaded & {'torch', 'onnx', 'onnxscript'}))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
