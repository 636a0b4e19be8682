"""How much there is room for: visual tokens, pixels, bytes; and what is lowered where there is too little."""
