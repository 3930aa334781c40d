"""The OpenID provider of one machine in development: a page of demo accounts without passwords.

    SOMAGENT_MODE=DEVELOPER SOMA_ISSUER=http://localhost:8080/oidc … python -m services.local.issuer

It ends at once in any mode that does not allow it.
"""

from __future__ import annotations

import sys

from aiohttp import web

from services.common.clock import SystemClock
from services.common.config import Misconfigured
from services.common.modes import ALLOWS
from services.local.issuer.app import IssuerConfig, issuer_app


def main() -> int:
    try:
        config = IssuerConfig.told()
    except Misconfigured as fault:
        return complain(f"The issuer's environment is wrong: {fault}.")
    if not ALLOWS[config.mode].dev_issuer:
        return complain(f"The development issuer does not run in mode {config.mode}: point SOMA_ISSUER at your own.")
    host, _, port = config.listen.rpartition(":")
    try:
        web.run_app(
            issuer_app(config, SystemClock()), host=host.strip("[]"), port=int(port), access_log=None, print=None
        )
    except OSError as fault:
        return complain(f"The issuer cannot listen on {config.listen}: {fault.strerror}. Choose another port.")
    return 0


def complain(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
