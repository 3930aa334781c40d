"""FeedbackService over gRPC."""

from __future__ import annotations

from services.common.call import caller
from services.common.interceptors import Context
from services.router.feedback.feedback import Feedbacks
from soma.router.v1 import feedback_service_pb2_grpc
from soma.router.v1.feedback_pb2 import Feedback
from soma.router.v1.feedback_service_pb2 import GiveFeedbackRequest


class FeedbackService(feedback_service_pb2_grpc.FeedbackServiceServicer):
    def __init__(self, feedbacks: Feedbacks) -> None:
        self._feedbacks = feedbacks

    async def GiveFeedback(self, request: GiveFeedbackRequest, context: Context) -> Feedback:
        return await self._feedbacks.give(caller(), request)
