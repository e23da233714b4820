"""A server without a server: requests come, engines take their time, and a policy decides; all of it from a seed.

The policy is that of the live server, call for call, or one that others have."""

from .model import Engine, Load, Model
from .peer import FixedDelay
from .policies import Deadlines, Policy, Serving
from .result import Result, Served
from .run import simulate

__all__ = ["Deadlines", "Engine", "FixedDelay", "Load", "Model", "Policy", "Result", "Served", "Serving", "simulate"]
