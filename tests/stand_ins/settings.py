"""The product's settings, with stand-ins for the floors above the kernel: their roles are not tested here."""

from quantum.settings import *  # noqa: F403
from quantum.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [app for app in _APPS if app not in ("permits", "positions", "apply")] + ["tests.stand_ins"]
