"""Proposals, the plans that came of them, and their orders; who may propose by HTTP."""

from __future__ import annotations

from django.db import models

from quantum import clock
from quantum.fields import AmountField


class Plan(models.Model):
    """One immutable, published intention. Only its state and what became of it change."""

    class State(models.TextChoices):
        OPEN = "open"
        INTENDED = "intended"
        UNKNOWN = "unknown"
        FILLED = "filled"
        PARTIALLY_FILLED = "partially_filled"
        REJECTED = "rejected"
        ALREADY_DONE = "already_done"
        BLOCKED = "blocked"
        SKIPPED = "skipped"
        EXPIRED = "expired"
        SPENT_UNSENT = "spent_unsent"
        NOT_AT_EXCHANGE = "not_at_exchange"

    plan_id = models.CharField(max_length=16, unique=True)
    symbol = models.CharField(max_length=40, db_index=True)
    action = models.CharField(max_length=24)
    decision = models.CharField(max_length=8)
    kill_score = models.CharField(max_length=40)
    timestamp = models.CharField(max_length=40)
    digest = models.CharField(max_length=64)
    mode = models.CharField(max_length=8)
    account = models.CharField(max_length=32)
    source = models.CharField(max_length=80, blank=True)
    reason_codes = models.CharField(max_length=400, blank=True)
    parent = models.CharField(max_length=16, blank=True, help_text="The attempt before: a plan's id.")
    attempt = models.PositiveSmallIntegerField(default=1)
    created_at = models.DateTimeField(default=clock.now, db_index=True)
    expires_at = models.DateTimeField()
    stream_id = models.CharField(max_length=40, blank=True)
    state = models.CharField(max_length=16, choices=State.choices, default=State.OPEN)
    error = models.CharField(max_length=80, blank=True)
    gate_reason = models.CharField(max_length=120, blank=True)
    wait_ms = models.PositiveIntegerField(null=True)
    gov_ttl = models.IntegerField(null=True)
    p33_ttl = models.IntegerField(null=True)
    ended_at = models.DateTimeField(null=True)
    result_id = models.CharField(max_length=40, blank=True)
    would_quantity = AmountField(null=True, help_text="In dry_run: what would have been sent.")
    safe_quantity = AmountField(
        null=True,
        help_text="In dry_run: the most that both permits allowed. Else the order's permits say it.",
    )
    # Empty for never: SQLite makes the table anew for a column that has a value, and loses its triggers by that.
    seen_again = models.PositiveIntegerField(
        null=True, help_text="Further entries of the stream that told it."
    )

    class Meta:
        ordering = ["-id"]
        indexes = [
            # Everything the janitor may have to care about; empty when all is well.
            models.Index(fields=["created_at"], name="plan_without_result", condition=models.Q(result_id="")),
        ]
        constraints = [
            # Two who try again at once: one of them makes the attempt.
            models.UniqueConstraint(
                fields=["parent"], condition=~models.Q(parent=""), name="plan_tried_again_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan_id} {self.symbol} {self.action}"


PENDING_STATES = (Plan.State.OPEN, Plan.State.INTENDED, Plan.State.UNKNOWN)


class Order(models.Model):
    """The intent, written before anything is sent, and what the exchange made of it (I4).

    plan_id is unique: whatever Redis forgets, a plan never has a second order (I1).
    """

    plan_id = models.CharField(max_length=16, unique=True)
    step = models.CharField(max_length=20)
    client_order_id = models.CharField(max_length=36, unique=True)
    symbol = models.CharField(max_length=40)
    side = models.CharField(max_length=4)
    quantity = AmountField()
    timestamp_ms = models.BigIntegerField(help_text="The exchange time the request carries.")
    intended_at = models.DateTimeField(default=clock.now, db_index=True)
    consumed_at = models.DateTimeField()
    token = models.CharField(max_length=32, help_text="Token of the attempt that spent the pair.")
    governor_permit = models.TextField()
    p33_permit = models.TextField()
    sent_at = models.DateTimeField(null=True)
    answered_at = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True)
    order_id = models.BigIntegerField(null=True)
    status = models.CharField(max_length=20, blank=True)
    executed_quantity = AmountField(null=True)
    average_price = AmountField(null=True)
    realized_pnl = AmountField(null=True)
    commission = models.JSONField(default=dict, help_text="What the fills cost, by asset.")
    error = models.CharField(max_length=80, blank=True)
    error_code = models.IntegerField(null=True)
    error_text = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-id"]
        permissions = [("resolve_order", "Can say what became of an order of unknown fate")]
        indexes = [
            models.Index(fields=["symbol", "id"], name="order_by_symbol"),
            models.Index(fields=["id"], name="order_that_failed", condition=~models.Q(error="")),
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.quantity} {self.symbol} ({self.client_order_id})"


class Proposal(models.Model):
    """What somebody proposed, as it was taken: it came to a plan, or was refused with a reason."""

    at = models.DateTimeField(default=clock.now, db_index=True)
    mark = models.CharField(
        max_length=64, unique=True, help_text="The plan's id; of a refused one its content's digest."
    )
    plan_id = models.CharField(max_length=16, blank=True, db_index=True)
    symbol = models.CharField(max_length=40, db_index=True)
    action = models.CharField(max_length=24)
    kill_score = models.CharField(max_length=40)
    k_regime_flip = AmountField(null=True)
    k_sigma_spike = AmountField(null=True)
    k_ts_drop = AmountField(null=True)
    k_age_penalty = AmountField(null=True)
    new_sl_proposed = AmountField(null=True)
    r_net = AmountField(null=True, verbose_name="R net")
    computed_at = models.CharField(max_length=40)
    reason_codes = models.CharField(max_length=400, blank=True)
    source = models.CharField(max_length=80, blank=True, help_text="What it says of itself.")
    way = models.CharField(max_length=8, help_text="How it came in.")
    actor = models.CharField(max_length=80)
    why = models.CharField(
        max_length=400, blank=True, help_text="In one sentence, as a person or a brain said it."
    )
    refusal = models.CharField(max_length=24, blank=True)
    refusal_text = models.CharField(max_length=400, blank=True)
    client = models.CharField(max_length=40, blank=True)
    idempotency_key = models.CharField(max_length=80, blank=True)
    body_digest = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["client", "idempotency_key"],
                condition=~models.Q(idempotency_key=""),
                name="proposal_once_per_key",
            ),
        ]
        permissions = [("propose", "Can propose an exit")]

    def __str__(self) -> str:
        return f"{self.symbol} {self.action} {self.plan_id or self.refusal}"


class ApiToken(models.Model):
    """Who may use the HTTP interface. Of the token itself only a digest is kept."""

    name = models.CharField(max_length=40, unique=True)
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.CharField(max_length=40)
    symbols = models.CharField(max_length=1000, help_text="Separated by commas; * is every symbol.")
    per_minute = models.PositiveIntegerField()
    created_at = models.DateTimeField(default=clock.now)
    created_by = models.CharField(max_length=80)
    reason = models.CharField(max_length=400)
    revoked_at = models.DateTimeField(null=True)
    revoked_by = models.CharField(max_length=80, blank=True)
    revoked_reason = models.CharField(max_length=400, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name


class Inquiry(models.Model):
    """What the resolver last learnt of an order in flight, and whether it is to be cancelled. One row per order that
    was asked for: a person who has to decide sees it, and apply, which holds the trade key, finds the cancel here."""

    class Finding(models.TextChoices):
        FAILING = "failing", "the exchange cannot be asked"
        OPEN = "open", "the exchange has it, and it is open"
        ABSENT = "absent", "the exchange does not know it"
        CONTRADICTORY = "contradictory", "what the exchange says of it does not fit together"

    plan_id = models.CharField(max_length=16, unique=True)
    finding = models.CharField(max_length=16, choices=Finding.choices)
    text = models.CharField(max_length=200, blank=True)
    found = models.JSONField(default=dict, help_text="The order as the exchange last showed it.")
    since = models.DateTimeField(default=clock.now)
    asked_at = models.DateTimeField(default=clock.now)
    asked = models.PositiveIntegerField(default=0)
    doubtful_since = models.DateTimeField(null=True, help_text="Since when no answer says what became of it.")
    cancel_asked_at = models.DateTimeField(null=True, db_index=True)
    cancel_sent_at = models.DateTimeField(null=True)
    cancels = models.PositiveSmallIntegerField(default=0, help_text="How often it was asked for.")
    cancel_text = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "inquiries"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.plan_id}: {self.finding}"


class BreakGlass(models.Model):
    """One act of break-glass, from who asked to the plan that came of it. A second person decides on a row that
    waits; the row that acts keeps a second act of its symbol out, in whatever process that begins."""

    class State(models.TextChoices):
        WAITING = "waiting", "waits for another person"
        ACTING = "acting", "is being signed"
        ACTED = "acted", "the plan was made"
        ANSWERED = "answered", "the exit had been decided already"
        REFUSED = "refused"
        EXPIRED = "expired"

    account = models.CharField(max_length=32)
    mode = models.CharField(max_length=8)
    symbol = models.CharField(max_length=40)
    action = models.CharField(max_length=24)
    gates = models.CharField(max_length=16, help_text="Whose permits the operator signs.")
    quantity = AmountField(help_text="The most that is closed.")
    stands_on = models.JSONField(help_text="What was shown: it must still be so when this acts.")
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    asked_by = models.CharField(max_length=80)
    reason = models.CharField(max_length=400)
    asked_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True)
    decided_by = models.CharField(max_length=80, blank=True)
    decided_reason = models.CharField(max_length=400, blank=True)
    plan_id = models.CharField(max_length=16, blank=True, db_index=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = "break-glass"
        verbose_name_plural = "break-glass"
        default_permissions = ("view",)
        permissions = [("break_glass", "Can break the glass: sign in a gate's place for a plan of his own")]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "symbol"],
                condition=models.Q(state__in=["waiting", "acting"]),
                name="one_break_glass_per_symbol",
            )
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.action} by {self.asked_by}: {self.state}"


class Alert(models.Model):
    """Something that was in the way of exits: from when it was first seen until it was gone. One open row for each,
    whoever looks: the warden's successor goes on with it, and of two wardens one tells."""

    key = models.CharField(max_length=120, help_text="Its kind, and what it is about.")
    critical = models.BooleanField(
        default=False, help_text="No exit can leave, or one has been blocked for too long."
    )
    text = models.CharField(max_length=200)
    why = models.CharField(max_length=500, blank=True)
    plan_id = models.CharField(max_length=16, blank=True)
    link = models.CharField(max_length=500, blank=True)
    command = models.CharField(max_length=200, blank=True)
    since = models.DateTimeField(default=clock.now, db_index=True)
    told_at = models.DateTimeField(null=True)
    escalated_at = models.DateTimeField(null=True)
    gone_at = models.DateTimeField(null=True, help_text="Not seen any more since.")
    ended_at = models.DateTimeField(null=True, help_text="It was told that it is over.")

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["key"], condition=models.Q(ended_at=None), name="one_open_alert_per_condition"
            )
        ]

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


class Notice(models.Model):
    """What one target is to be told, kept until it was told or given up."""

    class Event(models.TextChoices):
        ALERT = "alert"
        ESCALATION = "escalation"
        RECOVERY = "recovery"

    alert = models.ForeignKey(Alert, on_delete=models.PROTECT, related_name="notices")
    event = models.CharField(max_length=12, choices=Event.choices)
    target = models.CharField(max_length=40)
    mark = models.CharField(
        max_length=32, unique=True, help_text="The same at each attempt: a target tells by it what it knows."
    )
    body = models.TextField()
    at = models.DateTimeField(default=clock.now)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(default=clock.now, help_text="Nobody tries before.")
    answer = models.CharField(max_length=120, blank=True, help_text="What came of the last attempt.")
    told_at = models.DateTimeField(null=True)
    given_up_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["alert", "event", "target"], name="told_once_per_target")
        ]
        indexes = [
            models.Index(
                fields=["target", "id"],
                name="notice_to_be_told",
                condition=models.Q(told_at=None, given_up_at=None),
            )
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.target}"
