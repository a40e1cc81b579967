"""Every environment variable, read once. Runs with no environment at all: paper mode under var/.

Order: the process environment, then QUANTUM_ENV_FILE (default var/quantum.env, which `up`
makes), then the defaults below. The README's table lists all of them; a test holds it to that.
Secrets of the exchange and signing keys are not here: the role that needs one reads it itself.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
from pathlib import Path
from urllib.parse import urlsplit

import django
import environ

from quantum.environment import Environment
from quantum.keys import Keys
from quantum.profiles import PROFILES

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(os.environ.get("QUANTUM_VAR_DIR") or BASE_DIR / "var").resolve()
ENVIRONMENT = Environment.load(default_env_file=VAR_DIR / "quantum.env")
_env = ENVIRONMENT
_env.path("QUANTUM_VAR_DIR", default=VAR_DIR)
_env.text("QUANTUM_ENV_FILE")


def _embedded_socket(var_dir: Path) -> Path:
    """The embedded Valkey's socket. Unix sockets allow 107 characters: a deep folder gets a short alias."""
    usual = var_dir / "valkey.sock"
    if len(str(usual)) <= 100:
        return usual
    return Path("/tmp") / f"quantum-{hashlib.sha256(str(var_dir).encode()).hexdigest()[:12]}" / "valkey.sock"  # noqa: S108


# ---- instance
MODES = ("dry_run", "paper", "testnet", "live")
APPLY_MODE = _env.choice("APPLY_MODE", default="paper", among=MODES)
ACCOUNT = _env.text("ACCOUNT", default="main", pattern=r"[a-z0-9_-]{1,32}", right="1-32 of a-z 0-9 _ -")
KEY_PREFIX = _env.text(
    "KEY_PREFIX",
    default="quantum",
    pattern=r"\{?[a-z0-9_:-]{1,40}\}?",
    right="a short word, or {word} for a cluster",
)
KEYS = Keys(prefix=KEY_PREFIX)
# Consumer names contain it: in containers, whose own names change, set it to something that lasts.
QUANTUM_HOST = _env.text(
    "QUANTUM_HOST",
    default=re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:60] or "host",
    pattern=r"[A-Za-z0-9._-]{1,60}",
    right="1-60 of A-Z a-z 0-9 . _ -",
)
LIVE_CONFIRM = _env.text("LIVE_CONFIRM")
POLICY_PROFILE = _env.choice("POLICY_PROFILE", default="standard", among=tuple(PROFILES))
_profile = PROFILES[POLICY_PROFILE]

# ---- apply
APPLY_ALLOWLIST = _env.symbols("APPLY_ALLOWLIST", default=_profile.allowlist)
APPLY_PERMIT_WAIT_MS = _env.integer("APPLY_PERMIT_WAIT_MS", default=1200, least=50, most=10_000)
APPLY_PERMIT_STEP_MS = _env.integer("APPLY_PERMIT_STEP_MS", default=100, least=5, most=1000)
APPLY_PLAN_TTL_SEC = _env.number("APPLY_PLAN_TTL_SEC", default="30", least="1", most="300")
APPROVERS_REQUIRED = _env.integer("APPROVERS_REQUIRED", default=1, least=1, most=2)
BREAK_GLASS_SECOND_PERSON_USD = _env.optional_number(
    "BREAK_GLASS_SECOND_PERSON_USD", least="0", most="1000000000"
)
APPLY_RETRIES_MAX = _env.integer("APPLY_RETRIES_MAX", default=0, least=0, most=5)
# Whether it names a scorer is a system check of apply: a plug-in is looked for when apps are there.
EXIT_BRAIN = _env.text(
    "EXIT_BRAIN",
    default="off",
    pattern=r"[A-Za-z_][A-Za-z0-9_]*([.:-][A-Za-z0-9_]+)*",
    right="off, demo, rules, or the name or dotted path of a scorer",
)
EXIT_INTERVAL = _env.choice(
    "EXIT_INTERVAL", default="5m", among=("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h")
)
EXIT_RISK_PCT = _env.optional_number("EXIT_RISK_PCT", least="0.01", most="50")
RESOLVER_MARGIN_SEC = _env.number("RESOLVER_MARGIN_SEC", default="10", least="0.1", most="120")
RESOLVER_GAP_SEC = _env.number("RESOLVER_GAP_SEC", default="5", least="0.1", most="60")
ORDER_CANCEL_AFTER_SEC = _env.number("ORDER_CANCEL_AFTER_SEC", default="20", least="0.5", most="3600")

# ---- permits
PERMIT_TTL_SEC = _env.integer("PERMIT_TTL_SEC", default=60, least=15, most=60)
PERMIT_SIGNATURES = _env.choice("PERMIT_SIGNATURES", default="required", among=("required", "optional"))
PERMIT_KEYS_DIR = _env.path("PERMIT_KEYS_DIR", default=VAR_DIR / "keys")

# ---- audit
AUDIT_CHECKPOINTS = _env.path("AUDIT_CHECKPOINTS", default=VAR_DIR / "audit-checkpoints")
# How long rows stay that prove nothing.
QUANTUM_KEEP_DAYS = _env.integer("QUANTUM_KEEP_DAYS", default=90, least=2, most=3650)

# ---- positions
P33_STALE_THRESHOLD_SEC = _env.number("P33_STALE_THRESHOLD_SEC", default="10", least="0.5", most="60")
P33_COOLDOWN_SEC = _env.number("P33_COOLDOWN_SEC", default=_profile.cooldown_s, least="0", most="3600")
P33_QTY_TOLERANCE_PCT = _env.number("P33_QTY_TOLERANCE_PCT", default="1.0", least="0", most="10")
RECONCILE_AT_START_USD = _env.optional_number("RECONCILE_AT_START_USD", least="0", most="1000000000")
RECONCILE_SECOND_PERSON_USD = _env.optional_number(
    "RECONCILE_SECOND_PERSON_USD", least="0", most="1000000000"
)
P33_HEARTBEAT_SEC = _env.number("P33_HEARTBEAT_SEC", default="4", least="0.2", most="5")
LEDGER_SOURCES = _env.words(
    "LEDGER_SOURCES",
    default=_profile.ledger_sources,
    pattern=r"\*|[.A-Z:/a-z0-9_-]{1,30}",
    right="client-id prefixes separated by commas, or *",
)

# ---- governor: seed of the first policy version
GOV_MAX_EXEC_PER_5MIN = _env.integer(
    "GOV_MAX_EXEC_PER_5MIN", default=_profile.permits_per_5min, least=1, most=1_000_000
)
GOV_MAX_EXEC_PER_HOUR = _env.integer(
    "GOV_MAX_EXEC_PER_HOUR", default=_profile.permits_per_hour, least=1, most=1_000_000
)
GOV_MAX_REDUCE_NOTIONAL_PER_DAY_USD = _env.number(
    "GOV_MAX_REDUCE_NOTIONAL_PER_DAY_USD",
    default=_profile.notional_per_day_usd,
    least="1",
    most="1000000000000",
)
GOV_MAX_REDUCE_QTY_PER_DAY = _env.optional_number(
    "GOV_MAX_REDUCE_QTY_PER_DAY", least="0.000001", most="1000000000000"
)

# ---- places
EMBEDDED_SOCKET = _embedded_socket(VAR_DIR)
_socket_url = f"unix://{EMBEDDED_SOCKET}"
_redis_schemes = ("redis", "rediss", "unix")
REDIS_URL = _env.url("REDIS_URL", default=f"{_socket_url}?db=0", schemes=_redis_schemes)
REDIS_USERS_DIR = _env.text("REDIS_USERS_DIR")
QUEUE_URL = _env.url("QUEUE_URL", default=f"{_socket_url}?db=1", schemes=_redis_schemes)
CACHE_URL = _env.url("CACHE_URL", default=f"{_socket_url}?db=2", schemes=_redis_schemes)
DATABASE_URL = _env.url(
    "DATABASE_URL",
    default=f"sqlite:///{VAR_DIR / 'quantum.sqlite3'}",
    schemes=("sqlite", "postgres", "postgresql"),
)
PAPER_URL = _env.url("PAPER_URL", default="http://127.0.0.1:8087", schemes=("http",))
DRY_RUN_HOST = _env.choice("DRY_RUN_HOST", default="paper", among=("paper", "testnet", "live"))
QUANTUM_WEB_PORT = _env.integer("QUANTUM_WEB_PORT", default=8000, least=1, most=65535)
METRICS_PORT = _env.integer("METRICS_PORT", default=0, least=0, most=65000)
LOG_LEVEL = _env.choice("LOG_LEVEL", default="INFO", among=("DEBUG", "INFO", "WARNING", "ERROR"))
QUANTUM_FAULT = _env.text(
    "QUANTUM_FAULT",
    pattern=r"[a-z0-9_]+:(kill|stop|sleep|raise)(:[0-9.]+)?",
    right="<point>:<kill|stop|sleep|raise>[:s]",
)

# ---- alerts; the webhook's secret and apprise's addresses, which carry theirs, are read by who sends
_http = {
    "pattern": r"https?://[A-Za-z0-9._\[\]:-]+([/?][!-~]*)?",
    "right": "an address that begins with https:// or http://, without a login",
}
PUBLIC_URL = _env.text("PUBLIC_URL", **_http).rstrip("/")
ALERT_WEBHOOK_URL = _env.text("ALERT_WEBHOOK_URL", **_http)
ALERT_ESCALATION_URL = _env.text("ALERT_ESCALATION_URL", **_http)
_alert_secret = _env.text(
    "ALERT_WEBHOOK_SECRET", pattern=r"\S{32,}", right="at least 32 characters, no space"
)
_apprise = _env.text(
    "ALERT_APPRISE_URLS",
    pattern=r"[a-zA-Z][a-zA-Z0-9+.-]*://\S+(\s+[a-zA-Z][a-zA-Z0-9+.-]*://\S+)*",
    right="addresses of apprise with spaces between them",
)
ALERT_APPRISE_SCHEMES = tuple(address.partition("://")[0] for address in _apprise.split())
ALERT_BLOCKED_AFTER_SEC = _env.number("ALERT_BLOCKED_AFTER_SEC", default="120", least="5", most="86400")
ALERT_ESCALATE_AFTER_SEC = _env.number("ALERT_ESCALATE_AFTER_SEC", default="600", least="5", most="86400")
ALERT_HEARTBEAT_URL = _env.text("ALERT_HEARTBEAT_URL", **_http)
ALERT_HEARTBEAT_SEC = _env.number("ALERT_HEARTBEAT_SEC", default="60", least="5", most="3600")

# ---- web
_secret_key = _env.text("SECRET_KEY")
SECRET_KEY_GIVEN = bool(_secret_key)
SECRET_KEY = _secret_key or secrets.token_urlsafe(50)
WEB_READ_ONLY = _env.choice("WEB_READ_ONLY", default="off", among=("off", "on"))
WEB_TOTP_REQUIRED = _env.choice("WEB_TOTP_REQUIRED", default="off", among=("off", "on"))
DEBUG = False
ALLOWED_HOSTS = list(
    _env.words(
        "ALLOWED_HOSTS",
        default=("127.0.0.1", "localhost", "[::1]"),
        pattern=r"[^\s*]+",
        right="host names, no *",
    )
)

if APPLY_PERMIT_WAIT_MS >= PERMIT_TTL_SEC * 1000:
    _env.refuse("APPLY_PERMIT_WAIT_MS", "must be shorter than PERMIT_TTL_SEC")
if GOV_MAX_EXEC_PER_HOUR < GOV_MAX_EXEC_PER_5MIN:
    _env.refuse("GOV_MAX_EXEC_PER_HOUR", "must not be below GOV_MAX_EXEC_PER_5MIN, which it makes useless")
if APPLY_PERMIT_STEP_MS >= APPLY_PERMIT_WAIT_MS:
    _env.refuse("APPLY_PERMIT_STEP_MS", "must be shorter than APPLY_PERMIT_WAIT_MS")
if REDIS_USERS_DIR and ("@" in urlsplit(REDIS_URL).netloc or "password=" in urlsplit(REDIS_URL).query):
    _env.refuse("REDIS_URL", "must carry no login where REDIS_USERS_DIR gives each role its own")
if APPLY_MODE == "live" and PERMIT_SIGNATURES != "required":
    _env.refuse("PERMIT_SIGNATURES", "must be `required` in live")
if APPLY_MODE == "live" and LIVE_CONFIRM != ACCOUNT:
    _env.refuse("LIVE_CONFIRM", "live needs LIVE_CONFIRM set to the value of ACCOUNT")
if APPLY_MODE == "live" and QUANTUM_FAULT:
    _env.refuse("QUANTUM_FAULT", "fault points are for tests; remove it in live")
if (ALERT_WEBHOOK_URL or ALERT_ESCALATION_URL) and not _alert_secret:
    _env.refuse("ALERT_WEBHOOK_SECRET", "a webhook is signed: give 32 or more random characters of your own")
if ALERT_ESCALATE_AFTER_SEC <= ALERT_BLOCKED_AFTER_SEC:
    _env.refuse("ALERT_ESCALATE_AFTER_SEC", "must be longer than ALERT_BLOCKED_AFTER_SEC")
for _name in ("ALERT_WEBHOOK_URL", "ALERT_ESCALATION_URL"):
    if APPLY_MODE == "live" and globals()[_name].startswith("http://"):
        _env.refuse(_name, "live needs https://, so that nobody on the way reads or drops an alert")
if WEB_TOTP_REQUIRED == "on" and not SECRET_KEY_GIVEN:
    _env.refuse("SECRET_KEY", "WEB_TOTP_REQUIRED needs one that lasts: second factors are encrypted with it")
if APPLY_MODE == "live" and len(_secret_key) < 50:
    _env.refuse("SECRET_KEY", "live needs a secret key of at least 50 random characters")
_env.finish()

# ---- Django
INSTALLED_APPS = [
    "quantum",
    "permits",
    "positions",
    "apply",
    "django_q",
    "axes",
    "quantum.admin_site.SiteConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
_csp = {
    "default-src": ["'self'"],
    "img-src": ["'self'", "data:"],
    "object-src": ["'none'"],
    "base-uri": ["'none'"],
    "frame-ancestors": ["'none'"],
    "form-action": ["'self'"],
}
if django.VERSION >= (6, 0):
    MIDDLEWARE.append("django.middleware.csp.ContentSecurityPolicyMiddleware")
    SECURE_CSP = _csp
else:  # Django 5.2 on Python 3.11 has no policy of its own
    MIDDLEWARE.append("csp.middleware.CSPMiddleware")
    CONTENT_SECURITY_POLICY = {"DIRECTIVES": _csp}
MIDDLEWARE.append("quantum.entrance.Entrance")
MIDDLEWARE.append("axes.middleware.AxesMiddleware")  # last: it must see the final answer of a login

ROOT_URLCONF = "quantum.urls"
WSGI_APPLICATION = "quantum.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "quantum.web.frame",
            ]
        },
    }
]

DATABASES = {"default": environ.Env.db_url_config(DATABASE_URL)}
_sqlite = DATABASES["default"]["ENGINE"].endswith("sqlite3")
if _sqlite:
    DATABASES["default"]["ENGINE"] = "quantum.sqlite"  # waits for its turn in a better way
    # IMMEDIATE: with DEFERRED 28 % of read-then-write transactions failed at 4 processes.
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 1,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
else:
    # What the URL says after its ? (a socket's folder as host, sslmode, ...) is kept.
    given = DATABASES["default"].get("OPTIONS", {})
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 2,
        **given,
        # Last, so that it holds: an intent that is told as written must be written (I4).
        "options": f"{given.get('options', '')} -c synchronous_commit=on".strip(),
        "server_side_binding": False,  # statements with values go together (rows.Pile), which a server refuses to bind
    }
DATABASES["default"]["CONN_MAX_AGE"] = None
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DATABASES["default"]["TEST"] = (
    {"NAME": str(VAR_DIR / "test.sqlite3")} if _sqlite else {}
)  # threads share a file
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

_cache_options = {"SOCKET_CONNECT_TIMEOUT": 1, "SOCKET_TIMEOUT": 1}
_cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": CACHE_URL, "KEY_PREFIX": KEY_PREFIX}
CACHES = {
    "default": {**_cache, "OPTIONS": _cache_options},
    # A login outlives a Redis that is down: sessions fall back to the database. The default cache, which
    # counts failed logins, stays strict.
    "sessions": {**_cache, "OPTIONS": {**_cache_options, "IGNORE_EXCEPTIONS": True}},
    # Parts of pages that viewers share for a second: without it each is made for each of them.
    "pages": {**_cache, "OPTIONS": {**_cache_options, "IGNORE_EXCEPTIONS": True}},
}
SESSION_CACHE_ALIAS = "sessions"
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
# Outside live the pages are served over http on loopback; live sits behind TLS.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = APPLY_MODE == "live"
SECURE_HSTS_SECONDS = 31_536_000 if APPLY_MODE == "live" else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = APPLY_MODE == "live"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if APPLY_MODE == "live" else None

AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "quantum.second_factor.Backend"]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_HANDLER = "axes.handlers.cache.AxesCacheHandler"
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
AXES_LOCKOUT_TEMPLATE = "quantum/locked.html"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True
LOGGING_CONFIG = "quantum.log.configure"
LOGGING = {"level": LOG_LEVEL}

ROLE_COUNT = 4
Q_CLUSTER = {
    "name": KEYS.cluster_name,
    "redis": QUEUE_URL,
    "workers": ROLE_COUNT + 1,  # one role each, one left for the queue
    "timeout": 60,
    "retry": 90,
    "save_limit": -1,
    "recycle": 1_000_000_000,  # recycling would end a role in the middle of its work
    "guard_cycle": 1,
    "catch_up": False,
    "log_level": "WARNING",
}
