"""SomaAgent 01 for programs: connect, ask, watch. The contract's own messages and stubs are in `soma_api`."""

from soma_api.soma.agent.v1 import Accepted, AnswerPane, Done, Text
from soma_api.soma.common.v1 import Decision
from soma_sdk.answer import Answer
from soma_sdk.canvas import Document
from soma_sdk.errors import (
    Conflict,
    Denied,
    Exhausted,
    Exists,
    Failed,
    Invalid,
    NotFound,
    Precondition,
    SomaError,
    TooLate,
    Unauthenticated,
    Unavailable,
    Unexpected,
)
from soma_sdk.soma import Soma
from soma_sdk.tokens import from_command, from_file
from soma_sdk.turn import Event, Turn

__all__ = [
    "Accepted", "Answer", "AnswerPane", "Conflict", "Decision", "Denied", "Document", "Done", "Event", "Exhausted",
    "Exists", "Failed", "Invalid", "NotFound", "Precondition", "Soma", "SomaError", "Text", "TooLate", "Turn",
    "Unauthenticated", "Unavailable", "Unexpected", "from_command", "from_file",
]  # fmt: skip
