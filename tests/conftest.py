from __future__ import annotations

from hypothesis import HealthCheck, settings

# A crowded machine is no fault of what is tested: how long an example takes proves nothing.
settings.register_profile("calm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("calm")
