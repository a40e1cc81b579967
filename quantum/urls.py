from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

from quantum import routes, web

admin.autodiscover()
urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("healthz", web.healthz),
    path("metrics", web.metrics),
    path("admin/", admin.site.urls),
    *routes.registered(),
]
