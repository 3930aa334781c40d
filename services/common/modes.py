"""What each mode allows. Pure: one table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """The value of SOMAGENT_MODE."""

    DEVELOPER = "DEVELOPER"
    TRAINING = "TRAINING"
    TEST = "TEST"
    PRODUCTION = "PRODUCTION"
    PRODUCTION_ENTERPRISE = "PRODUCTION-ENTERPRISE"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a room may do in a mode."""

    reflection: bool
    """gRPC reflection answers."""
    dev_issuer: bool
    """The development OIDC issuer may run."""
    outside_providers: bool
    """Models beyond this machine may be called."""
    scripted_model: bool
    """The deterministic model is in the catalogue."""
    audits_reads: bool = False
    """The audit trail tells of what people read, too."""
    self_hosted_only: bool = False
    """Only models that the owner of the mesh runs may be called."""
    trains: bool = True
    """Policies are learned from feedback."""


ALLOWS = {
    Mode.DEVELOPER: Allowance(reflection=True, dev_issuer=True, outside_providers=True, scripted_model=False),
    Mode.TRAINING: Allowance(reflection=False, dev_issuer=False, outside_providers=True, scripted_model=False),
    Mode.TEST: Allowance(reflection=False, dev_issuer=True, outside_providers=False, scripted_model=True, trains=False),
    Mode.PRODUCTION: Allowance(reflection=False, dev_issuer=False, outside_providers=True, scripted_model=False),
    Mode.PRODUCTION_ENTERPRISE: Allowance(
        reflection=False,
        dev_issuer=False,
        outside_providers=True,
        scripted_model=False,
        audits_reads=True,
        self_hosted_only=True,
        trains=False,
    ),
}
