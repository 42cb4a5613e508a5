"""What every test may ask for, and how long Hypothesis looks for requests that do harm.

They are the same ones each time, so that a check says of one commit always the same.
``--hypothesis-profile=thorough`` looks at 10,000 of each kind, others each time.
"""

from hypothesis import settings

pytest_plugins = ["tests.lab.fixtures"]

settings.register_profile("quick", max_examples=150, derandomize=True, deadline=None, database=None)
settings.register_profile("thorough", max_examples=10_000, deadline=None, database=None)
settings.load_profile("quick")
