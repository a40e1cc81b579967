-- Write one gate's permit and wake the waiter when there is something to look at.
-- KEYS 1 this gate's permit  2 pair (companion hash)  3 receipt  4 wake of the plan
-- KEYS 5 this gate's reservations
-- ARGV 1 gate  2 digest  3 permit bytes  4 expiry ms (epoch)  5 '1' for a denial  6 pair and wake life ms
-- ARGV 7 what the grant reserves ('': nothing)  8 plan id  9 version of the reservations that was decided by
-- ARGV 10 position that was decided by, as the snapshot told it ('': by none)  11 its snapshot.
-- That one is no KEYS: a server asks who runs a script for the right to write them, and no gate may write it.
-- Returns {1, ttl ms} issued; {2, bytes} a live permit of this gate stands and is kept;
--      or {0, reason}: already_consumed, revoked, digest_mismatch, expired_permit, inputs_changed.
-- The reservation is written in the same step as the permit, and only by who has seen all those before it.
-- It never takes the other gate's permit key: the companion hash tells whether that one lives, and
-- keeps the bytes of a lone grant, so that the wake-up can carry both ('<now ms> <length> <gov><p33>').
-- Those are a hint that saves the waiter a look: the consume compares with what stands in the keys.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('EXISTS', KEYS[3]) == 1 then return {0, 'already_consumed'} end
local digest = redis.call('HGET', KEYS[2], 'digest')
if digest == 'revoked' then return {0, 'revoked'} end
if digest and digest ~= ARGV[2] then return {0, 'digest_mismatch'} end
local life = tonumber(ARGV[4]) - now
if life <= 0 then return {0, 'expired_permit'} end
local standing = redis.pcall('GET', KEYS[1])
if type(standing) == 'string' and digest then return {2, standing} end
if ARGV[10] ~= '' and redis.pcall('HGET', ARGV[11], 'position_amt') ~= ARGV[10] then
  return {0, 'inputs_changed'}
end
if ARGV[7] ~= '' then
  if redis.call('HGET', KEYS[5], 'version') ~= ARGV[9] then return {0, 'inputs_changed'} end
  redis.call('HSET', KEYS[5], ARGV[8], ARGV[7])
  redis.call('HINCRBY', KEYS[5], 'version', 1)
end

redis.call('SET', KEYS[1], ARGV[3], 'PX', life)
redis.call('HSET', KEYS[2], 'digest', ARGV[2], ARGV[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[6])
local other = ARGV[1] == 'governor' and 'p33' or 'governor'
local of_other = redis.call('HMGET', KEYS[2], other, other .. '_raw')
local complete = of_other[1] and tonumber(of_other[1]) > now
if ARGV[5] ~= '1' and not complete then
  redis.call('HSET', KEYS[2], ARGV[1] .. '_raw', ARGV[3])
  return {1, life}
end
local wake = '1'
if complete and of_other[2] then
  local gov, p33 = ARGV[3], of_other[2]
  if ARGV[1] == 'p33' then gov, p33 = p33, gov end
  wake = now .. ' ' .. #gov .. ' ' .. gov .. p33
  redis.call('HDEL', KEYS[2], other .. '_raw')
end
redis.call('RPUSH', KEYS[4], wake)
redis.call('PEXPIRE', KEYS[4], ARGV[6])
return {1, life}
