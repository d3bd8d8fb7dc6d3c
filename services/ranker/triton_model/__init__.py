"""The ranking model as it runs inside Triton.

The files are copied beside the model by `python -m deploy.triton.render`, into an environment that
has NumPy and ONNX Runtime and nothing of ours: they import nothing else, and each other relatively.
"""
