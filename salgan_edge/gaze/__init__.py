"""Photos with what people look at in them, and with what texts name in them; numpy alone."""
