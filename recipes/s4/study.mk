TASKS := rotten_tomatoes
ARMS  := base/run1 base/run2 base/bottleneck base/prefix
