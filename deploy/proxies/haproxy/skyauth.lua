-- Asks SkyAuth about a request, like Caddy's forward_auth and Traefik's ForwardAuth. See haproxy.cfg.

local QUESTION = {url = "http://skyauth/authz/verify", dst = "unix@/run/haproxy-skyauth.sock", timeout = 35000}
local IDENTITY = {"email", "user", "groups", "role", "method", "jwt"}
local OWN = {["skyauth"] = true, ["skyauth-csrf"] = true, ["__Host-skyauth"] = true, ["__Host-skyauth-csrf"] = true}

-- Only these headers of the client are sent to SkyAuth. Add the identity header of an auth proxy here.
local ASKED = {
	"accept", "authorization", "cookie", "origin", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "sec-websocket-key",
	"traceparent", "tracestate", "user-agent", "x-request-id", "x-requested-with",
}

-- Headers of a denial that are not returned, because HAProxy writes them itself.
local KEPT_BACK = {["connection"] = true, ["content-length"] = true, ["transfer-encoding"] = true, ["keep-alive"] = true}

-- HAProxy numbers the values of a header from 0.
local function values(headers, name)
	local found = {}
	local held = headers[name]
	if held ~= nil then
		for n = 0, #held do
			found[#found + 1] = held[n]
		end
	end
	return found
end

local function without_own_cookies(lines)
	local kept = {}
	for _, line in ipairs(lines) do
		for pair in line:gmatch("[^;]+") do
			-- Two patterns, because one for both ends takes seconds for a value with thousands of blanks.
			pair = (pair:match("%S.*") or ""):match(".*%S")
			if pair and not OWN[pair:match("^[^=%s]*")] then
				kept[#kept + 1] = pair
			end
		end
	end
	return table.concat(kept, "; ")
end

local function ask(txn)
	local client = txn.http:req_get_headers()
	local question = {
		["host"] = values(client, "host"),
		["x-forwarded-method"] = {txn.sf:method()},
		["x-forwarded-host"] = values(client, "host"),
		["x-forwarded-uri"] = {txn.sf:pathq()},
		["x-forwarded-for"] = {txn.sf:src()},
		["x-forwarded-proto"] = {txn:get_var("txn.scheme")},
	}
	for _, name in ipairs(ASKED) do
		local sent = values(client, name)
		if #sent > 0 then
			question[name] = sent
		end
	end
	return core.httpclient():get{url = QUESTION.url, dst = QUESTION.dst, timeout = QUESTION.timeout, headers = question}, client
end

local function refuse(txn, answer)
	local reply = txn:reply{status = answer.status}
	for name, _ in pairs(answer.headers) do
		if not KEPT_BACK[name] and not name:find("^x%-auth%-request%-") then
			for _, value in ipairs(values(answer.headers, name)) do
				reply:add_header(name, value)
			end
		end
	end
	reply:set_body(answer.body or "")
	txn:done(reply)
end

core.register_action("skyauth", {"http-req"}, function(txn)
	local answer, client = ask(txn)
	if answer == nil or answer.status == nil or answer.status < 200 or answer.headers == nil then
		return -- not marked as allowed, so haproxy.cfg answers 503
	end
	-- If HAProxy cannot reach SkyAuth, it creates the answer itself. Only SkyAuth's own 503 has Retry-After.
	if answer.status >= 500 and answer.headers["retry-after"] == nil then
		return
	end
	if answer.status > 299 then
		refuse(txn, answer)
		return
	end
	for _, name in ipairs(IDENTITY) do
		txn:set_var("txn.skyauth_" .. name, values(answer.headers, "x-auth-request-" .. name)[1] or "")
	end
	local cookies = values(client, "cookie")
	if #cookies > 0 then
		local kept = without_own_cookies(cookies)
		txn.http:req_del_header("cookie")
		if kept ~= "" then
			txn.http:req_add_header("cookie", kept)
		end
	end
	txn:set_var("txn.skyauth_allowed", true)
end, 0)
