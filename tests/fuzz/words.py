"""What is more than random text to a field: the form of a name, a model that is there, a word that is looked for."""

from __future__ import annotations

MODELS = ("scripted/scripted-slm", "scripted-standard", "scripted-premium", "soma/slm")
PATTERNS = ("scripted/*", "scripted/scripted-slm", "scripted/scripted-standard", "openai/*", "nobody/nothing")

OTHERWISE = {
    "conversation": "conversations/*",
    "parent": "conversations/*",
    "turn": "conversations/*/turns/*",
    "panes": "conversations/*/panes/*",
    "active": "conversations/*/panes/*",
    "beside": "conversations/*/panes/*",
    "decision": "decisions/*",
}
"""The form of names in fields of which no HTTP binding tells it."""
WORDS = {
    "soma.console.v1.ListAuditEventsRequest.person": ("reader@acme", "reader@globex", "system:agent", "system:", "p_"),
    "soma.console.v1.ListAuditEventsRequest.action": ("chat.", "chat.asked", "turn.answered", "chat", ".", ".."),
    "soma.router.v1.GetCompletionModelRequest.model": ("soma/auto", "scripted-slm", "scripted%2Fscripted-slm", "x"),
    "soma.router.v1.Hints.models": MODELS,
    "soma.router.v1.Hints.jurisdictions": ("here", "eu"),
    "soma.router.v1.Key.models": MODELS,
    "soma.router.v1.Policy.allowed_models": PATTERNS,
    "soma.router.v1.Policy.denied_models": PATTERNS[1:],
    "soma.router.v1.ModelRule.model": PATTERNS,
    "soma.router.v1.Policy.jurisdictions": ("here", "eu"),
    "soma.router.v1.Policy.learned": ("", "0" * 64),
    "soma.router.v1.Budget.of": ("*", "reader", "system:router", "keys/x"),
    "soma.router.v1.ListSpendRequest.model": ("scripted/scripted-standard", "scripted", "/"),
    "soma.router.v1.ListSpendRequest.user": ("member", "MEMBER"),
    "soma.router.v1.Tools.choice": ("auto", "required", "tool:x"),
}
EITHER = {"soma.router.v1.Feedback": (("decision", "turn"), ("score", "thumb"))}
"""Of such pairs of fields a message takes one."""
