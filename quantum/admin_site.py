"""The admin's site: Django's own, with our pages among its addresses."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig
from django.urls import URLPattern, URLResolver

from quantum import pages


class Site(AdminSite):
    site_header = site_title = "Quantum"
    index_title = "Home"
    site_url = None  # "/" is the admin
    enable_nav_sidebar = False  # the bar of pages stands in the header; the lists need the width

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Ours first: the last of Django's takes every address."""
        return [*pages.patterns(self), *super().get_urls()]


class SiteConfig(AdminConfig):
    default = False  # "quantum" is the kernel's own configuration
    default_site = "quantum.admin_site.Site"
