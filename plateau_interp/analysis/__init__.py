"""What a run or a model tells: `plateaus` finds plateau and drop in a loss curve, `probing` reads hidden states."""
