"""Fetches the text model's files: `python -m services.candidate.text`."""

from services.candidate.text.weights import main

raise SystemExit(main())
