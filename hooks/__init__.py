"""The interventions: small immutable values that edit activations, parameters or gradients."""
