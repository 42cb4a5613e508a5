"""What every test may ask for, and how long Hypothesis looks for requests that do harm.

``--hypothesis-profile=thorough`` looks at 10,000 of each kind.
"""

from hypothesis import settings

pytest_plugins = ["tests.lab.fixtures"]

settings.register_profile("quick", max_examples=150, deadline=None, database=None)
settings.register_profile("thorough", max_examples=10_000, deadline=None, database=None)
settings.load_profile("quick")
