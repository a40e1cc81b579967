"""The admin's site: Django's own, with our pages among its addresses."""

from __future__ import annotations

from typing import Any, cast

from django.contrib.admin import AdminSite, autodiscover
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, reverse

from quantum import pages


class Site(AdminSite):
    site_header = site_title = "Quantum"
    index_title = "Home"
    site_url = None  # "/" is the admin
    login_template = "quantum/login.html"
    password_change_template = "quantum/own_password.html"  # noqa: S105  the name of a file
    enable_nav_sidebar = False  # the bar of pages stands in the header; the lists need the width

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        from quantum.second_factor_forms import LoginForm  # a form of models that are not there yet above

        self.login_form = LoginForm
        return super().login(request, extra_context)

    def password_change(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """As Django's own, which in 5.2 has no place for a form of ours."""
        from django.contrib.auth.views import PasswordChangeView

        from quantum.people_forms import OwnPasswordForm  # as above

        request.current_app = self.name
        view = PasswordChangeView.as_view(
            form_class=OwnPasswordForm,
            success_url=reverse("admin:password_change_done", current_app=self.name),
            template_name=self.password_change_template,
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        return cast("TemplateResponse", view(request))

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Ours first: the last of Django's takes every address."""
        return [*pages.patterns(self), *super().get_urls()]


class SiteConfig(SimpleAdminConfig):
    """Pages are imported by who serves them (quantum/urls.py): a tenth of a start, which no role has to pay."""

    default = False  # "quantum" is the kernel's own configuration
    default_site = "quantum.admin_site.Site"

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(_check_all_pages, checks.Tags.admin)


def _check_all_pages(**words: Any) -> list[checks.CheckMessage]:
    """Django's own, of pages that may not have been imported yet: system checks come in any order."""
    autodiscover()
    return check_admin_app(**words)
