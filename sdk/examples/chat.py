"""Ask a question, and print the answer as it comes: python chat.py ADDRESS SVID TENANT PERSON QUESTION"""

import asyncio
import sys

from soma_sdk import AnswerPane, Decision, Done, Soma, SomaError, Text, from_command


async def main(address: str, svid: str, tenant: str, person: str, question: str) -> None:
    token = from_command(["soma", "token", "--tenant", tenant, "--person", person])
    async with Soma.connect(address, svid=svid, token=token) as soma:
        turn = soma.chat(question)
        async for event in turn:
            match event:
                case Decision(provider=provider, model=model, why=why):
                    print(f"{provider}/{model}: {why}", file=sys.stderr)
                case AnswerPane(closed=False, kind=kind, title=title):
                    print(f"[{kind}: {title}]", file=sys.stderr)
                case Text(delta=delta):
                    print(delta, end="", flush=True)
                case Done(cost_microusd=cost):
                    print()
                    print(f"{cost} millionths of a dollar, in {turn.conversation}", file=sys.stderr)


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except SomaError as refusal:
        sys.exit(str(refusal))
