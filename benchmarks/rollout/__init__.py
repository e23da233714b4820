"""How soon a rollout decides, and how often it errs: simulated with seeds, on the processes that rollouts use."""
