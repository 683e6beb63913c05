"""Commands are run in this process, as in the tests of the commands."""

from tests.deployments.conftest import call

__all__ = ["call"]
