"""What a transport failure of requests and urllib3 tells, and what of it may be shown."""

from __future__ import annotations

from ssl import SSLCertVerificationError

from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError, ProxyError, SSLError


def may_have_sent(failure: BaseException) -> bool:
    """False only where no connection came about: refused, no route, no name, no trust.

    Everything else counts as sent. A cut line looks the same before and after the
    exchange read the order, and a kept-alive line that the other side closed while idle
    may break on our first byte or on our last.
    """
    reason: object = failure.args[0] if failure.args else None
    if isinstance(reason, MaxRetryError):
        reason = reason.reason
    if isinstance(reason, ProxyError):  # so called only before the proxy has taken us
        reason = reason.original_error
    if isinstance(reason, SSLError):
        return not any(isinstance(arg, SSLCertVerificationError) for arg in reason.args)
    return not isinstance(reason, NewConnectionError | ConnectTimeoutError)


def described(failure: BaseException) -> str:
    """Class names only, outermost first: the texts hold addresses with signatures."""
    names = [type(failure).__name__]
    reason: object = failure.args[0] if failure.args else None
    if isinstance(reason, MaxRetryError):
        reason = reason.reason
    if isinstance(reason, BaseException):
        names.append(type(reason).__name__)
    return ": ".join(names)
