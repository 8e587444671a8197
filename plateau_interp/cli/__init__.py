"""The command `plateau`: `main` has the verbs, `options` reads the words, `listing` shows the plug-ins."""
