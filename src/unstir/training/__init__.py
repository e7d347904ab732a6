"""Training: presets, the loop, averages of weights, the engine, and a sitting of it all."""
