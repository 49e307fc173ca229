"""Events of OpenHands V0 (0.4 to 0.62), in every shape that its releases wrote, as events of ours."""
