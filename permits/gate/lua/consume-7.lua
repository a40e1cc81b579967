-- Spend a pair of permits, or say why not. The only place where permits are spent.
-- KEYS 1 governor permit  2 p33 permit  3 receipt  4 trading state  5 hold of the symbol
--      6 slot of the symbol  7 wake of the plan
-- ARGV 1 token  2 governor bytes  3 p33 bytes (both empty: peek)  4 state bytes expected
--      5 hold bytes allowed ('' for none)  6 plan expiry ms  7 not_after ms
-- Returns {1, now ms} for a spend of the bytes that were given;
--      {1, then ms, governor bytes, p33 bytes} from the receipt: this token spent them before;
--      or {0, reason, governor ttl, p33 ttl, governor bytes, p33 bytes, now ms, state bytes}
-- Never parses a permit and never re-encodes anything: bytes in, the same bytes out.
-- Idempotent by token: an answer that was lost is given again from the receipt.
local SLOT_MS, RECEIPT_MS = 5000, 300000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- MGET gives nothing for a value of another type: what is missing here may be there and be wrong.
local gov, p33, state, hold = unpack(redis.call('MGET', KEYS[1], KEYS[2], KEYS[4], KEYS[5]))

local function wrong(value, key)
  return not value and redis.call('EXISTS', key) == 1
end

local function refuse(reason)
  return {0, reason, redis.call('TTL', KEYS[1]), redis.call('TTL', KEYS[2]), gov or '', p33 or '', now, state or ''}
end

local spent_by = redis.call('HGET', KEYS[3], 'token')
if spent_by then
  if spent_by ~= ARGV[1] then return refuse('already_consumed') end
  local first = redis.call('HMGET', KEYS[3], 'at', 'governor', 'p33')
  return {1, tonumber(first[1]), first[2], first[3]}
end
if not state then return refuse('not_armed') end
if state ~= ARGV[4] then return refuse('state_differs') end
if wrong(hold, KEYS[5]) or (hold and (hold == '' or hold ~= ARGV[5])) then return refuse('hold') end
if now >= tonumber(ARGV[6]) then return refuse('expired_plan') end
if wrong(gov, KEYS[1]) then return refuse('malformed_governor') end
if wrong(p33, KEYS[2]) then return refuse('malformed_p33') end
if (gov and redis.call('PTTL', KEYS[1]) == -1) or (p33 and redis.call('PTTL', KEYS[2]) == -1) then
  return refuse('no_expiry')
end
if not gov and not p33 then return refuse('missing_both') end
if not gov then return refuse('missing_governor') end
if not p33 then return refuse('missing_p33') end
if gov ~= ARGV[2] or p33 ~= ARGV[3] then return refuse('unverified') end
if now >= tonumber(ARGV[7]) then return refuse('expired_permit') end
if not redis.call('SET', KEYS[6], ARGV[1], 'NX', 'PX', SLOT_MS) then
  -- Ours are always given an end: one without was made by a stranger, and would keep its symbol busy for good.
  if redis.call('PTTL', KEYS[6]) == -1 then
    redis.call('SET', KEYS[6], ARGV[1], 'PX', SLOT_MS)
  elseif redis.call('GET', KEYS[6]) ~= ARGV[1] then
    return refuse('symbol_busy')
  end
end

redis.call('DEL', KEYS[1], KEYS[2], KEYS[7])
redis.call('HSET', KEYS[3], 'token', ARGV[1], 'governor', gov, 'p33', p33, 'at', now)
redis.call('PEXPIRE', KEYS[3], RECEIPT_MS)
return {1, now}
