"""Records of OpenHands, all its generations, as events of ours."""
