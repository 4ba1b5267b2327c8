// A small HTTP server on net/http, as it is by default: /N answers N bytes.
//
//	hello PORT
package main

import (
	"bytes"
	"log"
	"net/http"
	"os"
	"strconv"
)

const most = 16 << 20

var body = bytes.Repeat([]byte("x"), most)

func hello(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.Atoi(r.URL.Path[1:])
	if err != nil || size < 0 || size > most {
		http.NotFound(w, r)
		return
	}
	// Both are set so that net/http neither guesses the type nor sends chunks.
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(size))
	w.Write(body[:size])
}

func main() {
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(hello)))
}
