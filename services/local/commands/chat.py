"""`soma chat`: one question, its answer as it comes, and what it cost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from services.common.clock import new_id
from services.local.commands.edge import Edge
from services.local.commands.token import mint
from services.local.fault import Fault
from services.local.stack import load_stack


def chat(home: Path, text: str, tenant: str, person: str, conversation: str, tier: str) -> None:
    """Print the answer to stdout, and the rest to stderr. Ctrl-C stops the answer. Fault when it fails."""
    stack = load_stack(home)
    edge = Edge(stack.ports["edge"], mint(stack, tenant, person), stack.https)
    question = sys.stdin.read() if text == "-" else text
    asked = {"text": question, "requestId": str(new_id()), "conversation": conversation, "tier": tier}
    spoken = Spoken()
    try:
        for event in edge.chat({name: value for name, value in asked.items() if value}):
            spoken.hear(event)
    except KeyboardInterrupt:
        edge.cancel()
        spoken.break_line()
        raise


class Spoken:
    """What has been said so far, and who says it."""

    def __init__(self) -> None:
        self.decision: dict[str, Any] = {}
        self.conversation = ""
        self.column = 0

    def hear(self, event: dict[str, Any]) -> None:
        match event:
            case {"accepted": accepted}:
                self.conversation = accepted.get("conversation", "")
            case {"decision": decision}:
                self.decision = decision
            case {"text": text}:
                self.write(text.get("delta", ""))
            case {"done": done}:
                self.break_line()
                self.close(done)
            case {"error": error}:
                self.break_line()
                raise Fault(f"{error.get('message', 'The answer failed.')} ({error.get('reason', '')})")

    def write(self, delta: str) -> None:
        sys.stdout.write(delta)
        sys.stdout.flush()
        self.column = 0 if delta.endswith("\n") else self.column + len(delta)

    def break_line(self) -> None:
        if self.column:
            self.write("\n")

    def close(self, done: dict[str, Any]) -> None:
        """The last line: model, cost, tokens, and how to go on."""
        from rich.console import Console

        usage = done.get("usage", {})
        about = "about " if usage.get("estimated") else ""
        facts = [
            f"{self.decision.get('provider', '?')}/{self.decision.get('model', '?')}",
            str(self.decision.get("tier", "")),
            dollars(int(done.get("costMicrousd", 0))),
            f"{about}{usage.get('inputTokens', 0)} + {usage.get('outputTokens', 0)} tokens",
            f"first after {done.get('firstTokenMs', 0)} ms",
        ]
        if done.get("finishReason") not in ("stop", None):
            facts.append(str(done["finishReason"]))
        console = Console(stderr=True, highlight=False)
        console.print(f"\n[dim]{'   '.join(fact for fact in facts if fact)}[/]", soft_wrap=True)
        console.print(f"[dim]--conversation {self.conversation}[/]", soft_wrap=True)


def dollars(microusd: int) -> str:
    """Money in dollars with as many digits as it needs: $0, $0.000045, $1.25."""
    digits = f"{microusd / 1_000_000:.6f}".rstrip("0")
    whole, _, part = digits.partition(".")
    return f"${whole}.{part.ljust(2, '0')}" if part else f"${whole}"
