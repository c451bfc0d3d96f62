"""The only room where parts are wired together and nurseries are opened."""
