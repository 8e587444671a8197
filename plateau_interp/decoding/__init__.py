"""Letting a model write: `continuing` continues texts, `answers` decodes a task's answers.

`prompts` brings texts and tokens of unequal length into one tensor, `choosing` draws the next tokens and says when a
sequence is finished, `cache` keeps keys and values between the tokens.
"""

from plateau_interp.decoding.answers import greedy_answers
from plateau_interp.decoding.choosing import StopRule, Token, prompt_seeds
from plateau_interp.decoding.continuing import Continuation, continued

__all__ = ["Continuation", "StopRule", "Token", "continued", "greedy_answers", "prompt_seeds"]
