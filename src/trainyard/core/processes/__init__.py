"""Processes: started, watched, restarted and stopped in one place.

In: specs of children. Out: their states, `run.json`, a control socket. Children die with the supervisor, also by
`kill -9`.
"""

from trainyard.core.processes.control import ControlClient, ControlServer
from trainyard.core.processes.crashes import CrashHistory
from trainyard.core.processes.handover import Handover
from trainyard.core.processes.runfile import RunFile
from trainyard.core.processes.specs import CONFIG_EXIT, ChildSpec, ChildState, ChildStatus
from trainyard.core.processes.supervisor import Supervisor

__all__ = [
    "CONFIG_EXIT",
    "ChildSpec",
    "ChildState",
    "ChildStatus",
    "ControlClient",
    "ControlServer",
    "CrashHistory",
    "Handover",
    "RunFile",
    "Supervisor",
]
