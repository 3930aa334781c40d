"""Make a pane, change it, and see it change: python canvas.py ADDRESS SVID TENANT PERSON"""

import asyncio
import sys

from betterproto.lib.google.protobuf import FieldMask

from soma_api.soma.agent.v1 import (
    Conversation,
    ConversationServiceStub,
    CreateConversationRequest,
    DeleteConversationRequest,
)
from soma_api.soma.canvas.v1 import CanvasServiceStub, CreatePaneRequest, Pane, UpdatePaneRequest
from soma_sdk import Conflict, Soma, SomaError, from_command


async def main(address: str, svid: str, tenant: str, person: str) -> None:
    token = from_command(["soma", "token", "--tenant", tenant, "--person", person])
    async with Soma.connect(address, svid=svid, token=token) as soma:
        conversations, canvas = soma.stub(ConversationServiceStub), soma.stub(CanvasServiceStub)
        asked = CreateConversationRequest(conversation=Conversation(title="An example"))
        name = (await conversations.create_conversation(asked)).name

        first = Pane(kind="code", language="python", title="hello.py", text="print('hello')")
        pane = await canvas.create_pane(CreatePaneRequest(parent=name, pane=first))
        stale = change(pane, "print('who was faster?')")

        async for document in soma.canvas.watch(name):
            for shown in document.panes.values():
                print(f"{shown.title}, version {shown.version}: {shown.text}")
            if pane.version == 1:
                pane = await canvas.update_pane(change(pane, "print('hello, world')"))
                continue
            try:
                await canvas.update_pane(stale)
            except Conflict as refusal:
                print(refusal.message)
            await conversations.delete_conversation(DeleteConversationRequest(name=name))
            break
    print("gone")


def change(pane: Pane, text: str) -> UpdatePaneRequest:
    """A change of the text that `pane` holds now. The etag says so."""
    new = Pane(name=pane.name, text=text, etag=pane.etag)
    return UpdatePaneRequest(pane=new, update_mask=FieldMask(paths=["text"]))


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except SomaError as refusal:
        sys.exit(str(refusal))
