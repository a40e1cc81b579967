-- Take permits of one plan back, so that they can never be spent, or say why not. All of them or none.
-- KEYS 1 governor permit  2 p33 permit  3 pair (companion hash)  4 receipt
-- ARGV 1 governor bytes to revoke ('' leaves that permit alone)  2 p33 bytes to revoke (the same)
--      3 pair life ms
-- Returns {1, now ms} revoked; {2, now ms} they were revoked before;
--      or {0, reason, spent at ms or 0, now ms}: already_consumed, missing, changed.
-- The bytes are those that were looked at: what was issued in between is left alone. The companion hash
-- forgets the permits, so that no wake-up carries them, and keeps the word `revoked` where the digest
-- was: the issuing script refuses another digest, so a redelivered plan gets no new permit.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('EXISTS', KEYS[4]) == 1 then
  return {0, 'already_consumed', tonumber(redis.call('HGET', KEYS[4], 'at')) or 0, now}
end
local revoked_before = redis.call('HGET', KEYS[3], 'digest') == 'revoked'
local fields = {'governor', 'p33'}
for at = 1, 2 do
  if ARGV[at] ~= '' then
    local standing = redis.pcall('GET', KEYS[at])
    if not standing then
      if revoked_before then return {2, now} end
      return {0, 'missing', 0, now}
    end
    if standing ~= ARGV[at] then return {0, 'changed', 0, now} end
  end
end
for at = 1, 2 do
  if ARGV[at] ~= '' then
    redis.call('DEL', KEYS[at])
    redis.call('HDEL', KEYS[3], fields[at], fields[at] .. '_raw')
  end
end
redis.call('HSET', KEYS[3], 'digest', 'revoked')
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return {1, now}
