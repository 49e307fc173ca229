"""Events of OpenHands V1 (the agent SDK, 1.0.0a1 to 1.58), in every shape of its releases, as events of ours."""
