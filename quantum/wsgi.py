import os
from importlib import import_module

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quantum.settings")
application = get_wsgi_application()
import_module("quantum.urls")  # not within the first page that somebody asks for
