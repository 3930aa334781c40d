"""Python reads this at its start where PYTHONPATH names the folder. SIGUSR1 begins a profile of the main thread,
SIGUSR2 ends it and writes it into the file SOMA_PROFILE_FILE. SIGRTMIN begins to time stages, for good; the signal
after it writes them there."""

import cProfile
import os
import signal

if "SOMA_PROFILE_FILE" in os.environ:
    profile = cProfile.Profile()

    def end(*_: object) -> None:
        file = os.environ["SOMA_PROFILE_FILE"]
        profile.disable()
        profile.dump_stats(f"{file}.half")
        os.replace(f"{file}.half", file)  # noqa: PTH105 - nothing more is loaded than must be
        profile.clear()

    def time_stages(*_: object) -> None:
        import stages  # type: ignore[import-not-found]  # it stands beside this file

        stages.install()

    def write_stages(*_: object) -> None:
        import stages

        stages.write(os.environ["SOMA_PROFILE_FILE"])

    signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
    signal.signal(signal.SIGUSR2, end)
    signal.signal(signal.SIGRTMIN, time_stages)
    signal.signal(signal.SIGRTMIN + 1, write_stages)
