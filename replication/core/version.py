"""Version of our application, on controllers and vault hosts alike. CHANGELOG.md starts with the same number."""

from typing import Final

VERSION: Final = "0.1.0"
