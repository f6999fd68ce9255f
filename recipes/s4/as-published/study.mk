# The last weights are scored, on validation; the second run goes on from the first one's model.
TASKS  := rotten_tomatoes
ARMS   := base/run1 run1/run2
CHOOSE :=
SCORE  := validation

# The first run of the same seed.
encoder.run1 = $W/$1/base/run1/$2
method.run1 := lora
