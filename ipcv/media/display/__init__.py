"""How a stored picture is displayed: upright, with whole lines, in the colours of an ordinary screen."""
