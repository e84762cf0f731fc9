"""Chat: one vLLM engine, one adapter per persona, each of them an OpenAI model behind one ingress."""
