#!/bin/sh
# A strategy for `zero-engine-run --strategy "exec:sh close_above_open.sh"`. It needs jq 1.6.
#
# It reads one JSON object per line and prints one answer per bar. The rule: buy when a bar closes above its open and
# nothing is held; sell everything when a bar closes below its open. It has no state, so it sends none.
exec jq --unbuffered --compact-output '
  def order($side; $quantity; $reason):
    {symbol, side: $side, quantity: $quantity, confidence: 1, reason: $reason};

  select(.type == "bar")
  | (.positions | map({(.symbol): .quantity}) | add) as $held
  | {orders: [
      .candles[]
      | ($held[.symbol] // 0) as $quantity
      | if $quantity == 0 and .close > .open then
          order("buy"; 1; "the close is above the open")
        elif $quantity > 0 and .close < .open then
          order("sell"; $quantity; "the close is below the open") + {reduce_only: true}
        else
          empty
        end
    ]}
'
