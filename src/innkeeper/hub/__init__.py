"""The customer portal: sign-in, sign-up, a customer's workspaces. Server-made pages; reads the store, asks by verbs."""
