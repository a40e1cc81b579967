"""The error codes the paper exchange answers with, and their HTTP status and texts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

TIMEOUT = "Timeout waiting for response from backend server. Send status unknown; execution status unknown."
USE_ALGO = "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead."
SERVICE_UNAVAILABLE = "Service Unavailable."
UNKNOWN_ERROR = "Unknown error, please check your request or try again later."
TOO_MANY = (
    "Too many requests; current limit is {0} requests per minute. "
    "Please use the websocket for live updates to avoid polling the API."
)
BANNED = (
    "Way too many requests; IP(127.0.0.1) banned until {0}. "
    "Please use the websocket for live updates to avoid bans."
)
UNEXPECTED = "An unexpected response was received from the message bus. Execution status unknown."
THROTTLED = "Request throttled by system-level protection. Please try again."
QUANT_RULES = (
    "Futures Trading Quantitative Rules violated, only reduceOnly order is allowed, please try again later."
)
ERRORS: Final[Mapping[int, tuple[int, str]]] = MappingProxyType(
    {
        -1001: (503, "Internal error; unable to process your request. Please try again."),
        -1003: (429, TOO_MANY),
        -1006: (500, UNEXPECTED),
        -1007: (408, TIMEOUT),
        -1008: (503, THROTTLED),
        -1015: (429, "Too many new orders; current limit is {0} orders per {1}."),
        -1021: (400, "Timestamp for this request is outside of the recvWindow."),
        -1022: (400, "Signature for this request is not valid."),
        -1100: (400, "Illegal characters found in parameter '{0}'."),
        -1102: (400, "Mandatory parameter '{0}' was not sent, was empty/null, or malformed."),
        -1106: (400, "Parameter '{0}' sent when not required."),
        -1111: (400, "Precision is over the maximum defined for this asset."),
        -1115: (400, "Invalid timeInForce."),
        -1116: (400, "Invalid orderType."),
        -1117: (400, "Invalid side."),
        -1120: (400, "Invalid interval."),
        -1121: (400, "Invalid symbol."),
        -1125: (400, "This listenKey does not exist."),
        -1128: (400, "Combination of optional parameters invalid."),
        -2011: (400, "Unknown order sent."),
        -2013: (400, "Order does not exist."),
        -2014: (401, "API-key format invalid."),
        -2015: (401, "Invalid API-key, IP, or permissions for action."),
        -2019: (400, "Margin is insufficient."),
        -2020: (400, "Unable to fill."),
        -2021: (400, "Order would immediately trigger."),
        -2022: (400, "ReduceOnly Order is rejected."),
        -4003: (400, "Quantity less than or equal to zero."),
        -4004: (400, "Quantity less than min quantity."),
        -4005: (400, "Quantity greater than max quantity."),
        -4014: (400, "Price not increased by tick size."),
        -4015: (400, "Client order id is not valid."),
        -4023: (400, "Qty not increased by step size."),
        -4028: (400, "Leverage {0} is not valid"),
        -4059: (400, "No need to change position side."),
        -4061: (400, "Order's position side does not match user's setting."),
        -4068: (400, "Position side cannot be changed if there exists position."),
        -4109: (400, "This account is inactive. Please activate it before trading."),
        -4116: (400, "ClientOrderId is duplicated."),
        -4118: (400, "ReduceOnly Order is rejected: too many resting reduce-only orders."),
        -4120: (400, USE_ALGO),
        -4164: (400, "Order's notional must be no smaller than {0} (unless you choose reduce only)."),
        -4131: (400, "The counterparty's best price does not meet the PERCENT_PRICE filter limit."),
        -4400: (400, QUANT_RULES),
        -5000: (404, "Path {0} is invalid"),
    }
)


class ApiError(Exception):
    """An answer of the exchange that is an error. Nothing was executed."""

    def __init__(self, code: int, *details: str):
        self.code = code
        self.status, text = ERRORS[code]
        self.msg = text.format(*details)
        super().__init__(f"{code}: {self.msg}")
