"""Why are samples noise, black, tinted, or copies? Looks at a run, each a small function, and what they say in words.

A fault that can be undone is undone, and the loss of held-out items measured again with the very same noise: where it surely
falls, the fault was there. What is known without any network (the mean, a Gaussian fit, the nearest training items) is the
yardstick for the rest.
"""

from unstir.evaluation.doctor.examine import Diagnosis, examine
from unstir.evaluation.doctor.findings import Finding, Look

__all__ = ["Diagnosis", "Finding", "Look", "examine"]
