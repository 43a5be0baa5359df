"""What can go wrong with the simulator itself, as opposed to what it pretends."""

from __future__ import annotations


class SimulatorError(Exception):
    """The simulator cannot do what was asked of it; the text is for the user, and says where the problem is."""
