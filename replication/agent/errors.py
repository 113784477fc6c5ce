"""Why the agent cannot begin its work: one sentence for the person who started it."""


class CannotStart(Exception):
    """Nothing was left running; the text says what is wrong and what to do."""
