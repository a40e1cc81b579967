#!/usr/bin/env python
"""Runs a command. Wrong settings are one clear line each, not a traceback."""

import os
import sys


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quantum.settings")
    try:
        from django.conf import settings
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
    except ImportError as missing:
        print(f"{missing}; run `make setup` and use its Python (see `make help`)", file=sys.stderr)
        return 5
    try:
        settings.APPLY_MODE  # noqa: B018  reads the settings: everything wrong shows here
    except ImproperlyConfigured as wrong:
        print(f"Refusing to start, the settings are wrong:\n{wrong}", file=sys.stderr)
        return 2
    execute_from_command_line(sys.argv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
