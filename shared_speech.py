"""What the sessions of a process share, beside the connections: limits, and what was learned.

Each business has a breaker and refused models of its own, so that the trouble of one is not that
of another. Any thread; nothing waits in it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from recognition import RefusedModels
from recovery import Recovery
from rotation_slots import RotationSlots
from waiting_audio import WaitingAudio

MEBIBYTE = 1024 * 1024
# Whoever can open a stream can name a business: they must not make this grow for ever.
_REMEMBERED_TENANTS = 1_000


@dataclass(frozen=True, slots=True)
class TenantSpeech:
    """How one business stands with Google."""

    recovery: Recovery
    refused_models: RefusedModels = field(default_factory=RefusedModels)


class SharedSpeech:
    """What is shared by the sessions of a process. `waiting_bytes`: audio without a final.

    `new_recovery` is handed in by tests.
    """

    def __init__(
        self,
        waiting_bytes: int = 64 * MEBIBYTE,
        new_recovery: Callable[[], Recovery] = Recovery,
    ) -> None:
        self.slots = RotationSlots()
        self.waiting = WaitingAudio(waiting_bytes)
        self._lock = threading.Lock()
        self._new_recovery = new_recovery
        self._tenants: OrderedDict[str, TenantSpeech] = OrderedDict()

    def tenant(self, tenant_id: str) -> TenantSpeech:
        """What the sessions of this business share."""
        with self._lock:
            tenant = self._tenants.get(tenant_id) or TenantSpeech(self._new_recovery())
            self._tenants[tenant_id] = tenant
            self._tenants.move_to_end(tenant_id)
            if len(self._tenants) > _REMEMBERED_TENANTS:
                self._tenants.popitem(last=False)
            return tenant
