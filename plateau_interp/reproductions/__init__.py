"""The papers that the suite rests on, reproduced claim by claim: experiments, pictures and claims as data."""
